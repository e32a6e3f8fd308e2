// The console: puts its parts together.
//
// - language, theme, storage: how it looks and what it remembers
// - api, token: the node's HTTP interfaces, and the token for them
// - connection, connect: a WebSocket that comes back by itself, and its form
// - send, json, field: the form that sends, and what it checks
// - log: what was sent, received, happened and failed
// - figures, charts, nodes: the node, its last minutes, the cluster

import { ConnectForm } from "./connect.js";
import { Figures } from "./figures.js";
import { startLanguage } from "./language.js";
import { Log } from "./log.js";
import { Nodes } from "./nodes.js";
import { SendForm } from "./send.js";
import { read, write } from "./storage.js";
import { TokenDialog } from "./token.js";

const element = (id) => document.getElementById(id);

function startTheme(select) {
  select.value = read("localStorage", "theme") ?? "system";
  select.addEventListener("change", () => {
    const chosen = select.value === "system" ? null : select.value;
    write("localStorage", "theme", chosen);
    if (chosen === null) delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
  });
}

startTheme(element("theme"));
await startLanguage(element("language"));
new TokenDialog();
const log = new Log();
const send = new SendForm(log, (message) => connect.send(message));
const connect = new ConnectForm(log, (id) => send.toConnection(id));
const nodes = new Nodes();
let id = "";
new Figures((state, node) => {
  if (node !== null) connect.guess(node.ws_port, true);
  id = node?.id ?? id;
  nodes.setOwn(state, id);
});
delete document.body.dataset.loading;
