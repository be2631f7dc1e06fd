// Runs a program for wasm32-wasip1: `node node.mjs PROGRAM`.
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const [program] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: [program], env: process.env });
const { instance } = await WebAssembly.instantiate(
  await readFile(program), wasi.getImportObject());
process.exitCode = wasi.start(instance);
