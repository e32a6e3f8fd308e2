// JSON as text: checked and laid out without being read into values, as reading would change large numbers.

/** What is wrong with a text as JSON; null where nothing is. */
export function fault(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return error.message;
  }
}

/** A JSON text with line breaks and indentation; every number and string stays as it was written. */
export function format(text) {
  let out = "";
  let depth = 0;
  // Whether the innermost bracket has nothing in it yet: an empty one stays on its line.
  let fresh = false;
  const line = () => "\n" + "  ".repeat(depth);
  // A string, a bracket, a separator, or whatever else stands between those; blanks between them are left out.
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s"[\]{},:]+/g)) {
    if (token === "}" || token === "]") {
      depth -= 1;
      out += fresh ? token : line() + token;
      fresh = false;
      continue;
    }
    if (fresh) out += line();
    fresh = token === "{" || token === "[";
    if (fresh) depth += 1;
    if (token === ",") out += token + line();
    else out += token === ":" ? ": " : token;
  }
  return out;
}

/** The text laid out where it is a JSON object or list, else null. */
export function laidOut(text) {
  return /^\s*[[{]/.test(text) && fault(text) === null ? format(text) : null;
}
