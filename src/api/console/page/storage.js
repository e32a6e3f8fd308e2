// What the browser keeps: for the tab (`sessionStorage`) or for good (`localStorage`). A browser may forbid either; the
// page then works and remembers nothing.

/** What is kept under a name, or null. */
export function read(kind, name) {
  try {
    return window[kind].getItem(`carillon.${name}`);
  } catch {
    return null;
  }
}

/** Keeps a text under a name; null takes it away. */
export function write(kind, name, value) {
  try {
    if (value === null) window[kind].removeItem(`carillon.${name}`);
    else window[kind].setItem(`carillon.${name}`, value);
  } catch {
    // Not kept.
  }
}
