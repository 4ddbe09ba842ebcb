// node refusals.mjs CASES.json: asks every client every case that it can ask, a line of JSON each: how it was refused.

import { readFileSync } from "node:fs";
import { clients } from "./clients.mjs";

for (const asked of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  for (const [name, { can, call }] of Object.entries(clients)) {
    if (!can(asked)) continue;
    const said = { client: name, case: asked.name };
    try {
      await call(asked);
      said.code = "(not refused)";
    } catch (error) {
      said.code = error.name === "CredentialsError" || error.code ? error.code : error.name;
      said.message = error.message;
      said.status = error.$metadata?.httpStatusCode ?? error.statusCode ?? error.$response?.statusCode;
    }
    console.log(JSON.stringify(said));
  }
}
