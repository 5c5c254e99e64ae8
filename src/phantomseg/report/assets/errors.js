// What goes wrong is written where a test, or a reader of the page's source, finds it.
"use strict";
const noteError = (message) => {
  const root = document.documentElement;
  root.dataset.errors = JSON.stringify([...JSON.parse(root.dataset.errors || "[]"), String(message)]);
};
window.addEventListener("error", (event) => noteError(event.message));
window.addEventListener("unhandledrejection", (event) => noteError(event.reason));
const embedded = (id) => JSON.parse(document.getElementById(id).textContent);
document.documentElement.classList.add("scripts");
