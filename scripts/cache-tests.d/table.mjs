// Usage: node table.mjs SUITE_DIR
//
// Prints a table of what squid.json and pnat.json in that directory say, by the suite's own kinds of tests, and fails where pnat
// fails a test that Squid passes. How results are to be read: the suite's README.
import fs from 'node:fs'
import path from 'node:path'
import process from 'node:process'

const directory = path.resolve(process.argv[2])
const suite = path.join(directory, 'node_modules/http-cache-tests/tests')
const { default: groups } = await import(path.join(suite, 'index.mjs'))
const { default: surrogate } = await import(path.join(suite, 'surrogate-control.mjs'))
const tests = new Map([...groups, surrogate].flatMap(group => group.tests.filter(test => !test.browser_only).map(test => [test.id, test])))

// What a test's outcome is called: in the first column where it held, in the second where not.
const WORDS = { required: ['pass', 'FAIL'], optimal: ['pass', 'missed'], check: ['yes', 'no'] }

function results (gateway) {
  const file = path.join(directory, `${gateway}.json`)
  return fs.existsSync(file) ? JSON.parse(fs.readFileSync(file)) : {}
}

function holds (word) {
  return word === 'pass' || word === 'yes'
}

function outcome (test, of) {
  const result = of[test.id]
  if (result === undefined) return '-'
  // A test says nothing where one that it builds on does not hold.
  if ((test.depends_on ?? []).some(id => !holds(outcome(tests.get(id), of)))) return 'moot'
  if (result[0] === 'Setup') return result[1] === 'retry' ? 'retry' : 'setup'
  return WORDS[test.kind ?? 'required'][result === true ? 0 : 1]
}

function count (rows, column) {
  const counts = {}
  for (const row of rows) counts[row[column]] = (counts[row[column]] ?? 0) + 1
  return Object.entries(counts).sort().map(([word, number]) => `${number} ${word}`).join(', ')
}

const [squid, pnat] = [results('squid'), results('pnat')]
const rows = [...tests.values()].map(test => ({ test, squid: outcome(test, squid), pnat: outcome(test, pnat) }))
const measured = Object.keys(pnat).length > 0
const worse = rows.filter(row => measured && row.squid === 'pass' && row.pnat === 'FAIL')
const missed = rows.filter(row => measured && holds(row.squid) && !holds(row.pnat) && !worse.includes(row))

function list (title, some) {
  console.log(`\n${title}: ${some.length === 0 ? 'none' : ''}`)
  for (const { test, pnat: word } of some) console.log(`- \`${test.id}\` (${word}): ${test.name}: ${pnat[test.id][1] ?? ''}`)
}

console.log('# The cache tests of the HTTP working group\n')
console.log('By `scripts/cache-tests` (http-cache-tests 0.4.5). pass, FAIL: required; missed: allowed, but better otherwise; yes, no: a mere')
console.log('question; setup: something before the point in question was otherwise, such as nothing stored; moot: builds on a test that')
console.log('does not hold; retry: the gateway asked twice; -: not run.\n')
console.log(`- Squid 5.7: ${count(rows, 'squid')}`)
console.log(`- PNAT: ${count(rows, 'pnat')}`)
if (measured) {
  list('PNAT fails, Squid passes', worse)
  list('Held by Squid, otherwise by PNAT', missed)
}
console.log('\n| Test | Squid | PNAT |\n|---|---|---|')
for (const row of rows) console.log(`| ${row.test.id} | ${row.squid} | ${row.pnat} |`)
process.exitCode = worse.length > 0 ? 1 : 0
