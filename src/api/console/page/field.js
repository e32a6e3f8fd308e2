// Faults of a form's fields, said where they are.

/** Says what is wrong with a field, in the element that its `aria-describedby` ends with; nothing, if `message` is empty. */
export function setFault(field, message) {
  document.getElementById(`${field.id}-error`).textContent = message;
  if (message === "") field.removeAttribute("aria-invalid");
  else field.setAttribute("aria-invalid", "true");
}
