// Runs Azurite with the given arguments for as long as stdin is open, so that a test process that dies, however it dies,
// never leaves an emulator behind. `--remove-after` deletes the folder given by `--location` at the end.
'use strict';

const { spawn } = require('node:child_process');
const { rmSync } = require('node:fs');
const { join } = require('node:path');

const STOP_MS_MAX = 10_000;

const args = process.argv.slice(2).filter((arg) => arg !== '--remove-after');
const removeAfter = args.length !== process.argv.length - 2;
const location = args[args.indexOf('--location') + 1];

const program = join(__dirname, 'node_modules', 'azurite', 'dist', 'src', 'azurite.js');
const azurite = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'inherit', 'inherit'] });

azurite.on('exit', (code, signal) => {
  if (removeAfter) {
    rmSync(location, { recursive: true, force: true });
  }
  process.exit(signal === null ? code : 1);
});

let stopping = false;
function stop() {
  if (!stopping) {
    stopping = true;
    azurite.kill('SIGTERM');
    setTimeout(() => azurite.kill('SIGKILL'), STOP_MS_MAX).unref();
  }
}

process.stdin.on('end', stop).on('error', stop).resume();
process.on('SIGTERM', stop).on('SIGINT', stop);
