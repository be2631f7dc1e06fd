// Runs a program for wasm32-wasip1: node --no-warnings tests/bits/node.mjs PROGRAM
import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";

const [program] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: [program], env: process.env });
const imports = wasi.getImportObject();
// Node 20's direct calls from WebAssembly to these crash it (nodejs/node#53087);
// by way of a function of JavaScript they are ordinary ones.
const calls = imports.wasi_snapshot_preview1;
for (const [name, call] of Object.entries(calls)) {
  calls[name] = (...values) => call(...values);
}
const module = new WebAssembly.Module(readFileSync(program));
process.exitCode = wasi.start(new WebAssembly.Instance(module, imports));
