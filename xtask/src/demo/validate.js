// Holds a HAR file against har-validator, and JSON lines against the records' schema.
//
//   node validate.js MODULES HAR JSONL SCHEMA
"use strict";
const fs = require("node:fs");
const { createRequire } = require("node:module");

const [modules, har, lines, schema] = process.argv.slice(2);
const load = createRequire(`${modules}/package.json`);

function wrong(what, errors) {
  console.error(what, JSON.stringify(errors, null, 1));
  process.exit(1);
}

async function main() {
  const whole = JSON.parse(fs.readFileSync(har, "utf8"));
  await load("har-validator").har(whole).catch((error) => wrong("not a HAR:", error.errors ?? String(error)));
  const { default: Ajv } = load("ajv/dist/2020");
  const valid = new Ajv({ strict: false, validateFormats: false }).compile(JSON.parse(fs.readFileSync(schema, "utf8")));
  const records = fs.readFileSync(lines, "utf8").trim().split("\n");
  for (const line of records) {
    if (!valid(JSON.parse(line))) wrong(`not a record: ${line}`, valid.errors);
  }
  console.log(`${whole.log.entries.length} entries of the HAR and ${records.length} JSON lines are valid`);
}

main();
