#!/usr/bin/env node
'use strict'
// The command, in a clone, in the package and in the image. It is in the JavaScript of 2015, so that a Node that
// is too old for the program reads this file and gives a sentence instead of a syntax error.

var fs = require('fs')
var path = require('path')

var root = path.join(__dirname, '..')
var needed = /[0-9][0-9.]*/.exec(require('../package.json').engines.node)[0]

function isOlder(version, than) {
  var parts = version.split('.')
  var others = than.split('.')
  for (var index = 0; index < others.length; index += 1) {
    var difference = Number(parts[index] || 0) - Number(others[index])
    if (difference !== 0) return difference < 0
  }
  return false
}

function main() {
  if (!isOlder(process.versions.node, needed)) return start()
  // A clone has a Node of its own, which npm ci brings.
  var own = path.join(root, 'node_modules', 'node', 'bin', 'node')
  if (fs.existsSync(own)) return startWith(own)
  refuse()
}

function refuse() {
  var isClone = fs.existsSync(path.join(root, 'src'))
  var remedy = isClone ? '; "npm ci", without --ignore-scripts, brings one' : ''
  process.stderr.write(
    'entrepot: Node.js ' + needed + ' or newer is needed, and this is ' + process.versions.node + remedy + '\n',
  )
  process.exitCode = 1
}

/** A clone runs its sources; the package and the image have the compiled program only. */
function start() {
  var source = path.join(root, 'src', 'main.ts')
  var program = fs.existsSync(source) ? source : path.join(root, 'dist', 'main.js')
  // As in main.ts, and before main.ts is compiled itself: that alone would load the compiler of types.
  require('module').enableCompileCache(path.join(root, 'node_modules', '.cache', 'entrepot'))
  import(require('url').pathToFileURL(program).href)
}

function startWith(node) {
  var child = require('child_process').spawn(node, [__filename].concat(process.argv.slice(2)), {
    stdio: 'inherit',
  })
  var signals = ['SIGTERM', 'SIGINT', 'SIGHUP']
  signals.forEach(function (signal) {
    // A terminal sends its SIGINT to the child too, which tells two apart by their number: pass on no other.
    process.on(signal, function () {
      if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal)
    })
  })
  child.on('error', function (error) {
    process.stderr.write('entrepot: ' + node + ' cannot be run: ' + error.message + '\n')
    process.exitCode = 1
  })
  child.on('exit', function (code, signal) {
    process.exitCode = code === null ? 128 + require('os').constants.signals[signal] : code
  })
}

main()
