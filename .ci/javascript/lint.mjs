// Lints the joined scripts that scripts.py prints, and tells the file and the line of every problem.
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { ESLint } from 'eslint';

const root = fileURLToPath(new URL('../..', import.meta.url));
const config = fileURLToPath(new URL('eslint.config.mjs', import.meta.url));
const eslint = new ESLint({ cwd: root, overrideConfigFile: config });
const pieces = JSON.parse(await text(process.stdin));
const uses = new Map(); // file -> in how many pieces it stands
const problems = new Map(); // problem -> its rule, its file, and in how many pieces it was found

for (const { name, text: script, files } of pieces) {
  const placeOf = (line) => {
    const [file, start] = files.findLast(([, first]) => first <= line);
    return { file, line: line - start + 1 };
  };
  for (const [file] of files) uses.set(file, (uses.get(file) ?? 0) + 1);
  const [{ messages }] = await eslint.lintText(script, { filePath: root + name });
  for (const { line = 1, column = 1, message, ruleId } of messages) {
    const place = placeOf(line);
    const said = message.replace(/\bline (\d+)/, (_, other) => Object.values(placeOf(Number(other))).join(' line '));
    const problem = `${place.file}:${place.line}:${column}: ${said} (${ruleId ?? 'no JavaScript'})`;
    const count = (problems.get(problem)?.count ?? 0) + 1;
    problems.set(problem, { rule: ruleId, file: place.file, count });
  }
}

// Each piece uses a part of what common.js offers. Only what no piece uses is unused.
const isMistake = ({ rule, file, count }) => rule !== 'no-unused-vars' || count === uses.get(file);
const mistakes = [...problems.keys()].filter((problem) => isMistake(problems.get(problem)));
for (const problem of mistakes) console.log(problem);
console.log(`eslint: ${mistakes.length} problems in ${uses.size} files, which make up ${pieces.length} pieces of the page`);
process.exit(mistakes.length ? 1 : 0);
