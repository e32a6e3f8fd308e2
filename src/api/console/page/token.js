// The dialog that asks for the API's token, and the button that opens it or forgets what it was given.

import { accepts, forgetToken, hasToken, isLocked, keepToken, onToken } from "./api.js";
import { setFault } from "./field.js";
import { label, text } from "./language.js";

const element = (id) => document.getElementById(id);

export class TokenDialog {
  #dialog = element("token-dialog");
  #field = element("token");
  #button = element("token-button");

  constructor() {
    element("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    element("token-cancel").addEventListener("click", () => this.#dialog.close());
    this.#field.addEventListener("input", () => setFault(this.#field, ""));
    this.#button.addEventListener("click", () => (hasToken() && !isLocked() ? forgetToken() : this.#open()));
    onToken(() => {
      this.#show();
      if (isLocked()) this.#open();
    });
    this.#show();
  }

  #show() {
    const forget = hasToken() && !isLocked();
    this.#button.hidden = !forget && !isLocked();
    label(this.#button, forget ? "token.forget" : "token.enter");
  }

  #open() {
    if (this.#dialog.open) return;
    this.#field.value = "";
    // One was kept and is refused: it was exchanged at the node.
    setFault(this.#field, hasToken() ? text("token.expired") : "");
    this.#dialog.showModal();
    this.#field.focus();
  }

  async #submit() {
    const token = this.#field.value.trim();
    if (token === "") {
      setFault(this.#field, text("token.missing"));
      return;
    }
    const submit = element("token-submit");
    submit.disabled = true;
    try {
      if (await accepts(token)) {
        this.#dialog.close();
        keepToken(token);
        return;
      }
      setFault(this.#field, text("token.wrong"));
      this.#field.select();
    } catch (error) {
      setFault(this.#field, text("token.unchecked", { why: error.message }));
    } finally {
      submit.disabled = false;
    }
    this.#field.focus();
  }
}
