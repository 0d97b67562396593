import js from '@eslint/js';

const readonly = (...names) => Object.fromEntries(names.map((name) => [name, 'readonly']));

// Of the browser's many global names only those that are meant: a forgotten `event`, `name` or `status` is undefined.
const BROWSER = readonly(
  'atob', 'clearInterval', 'clearTimeout', 'document', 'history', 'localStorage', 'location', 'matchMedia', 'navigator',
  'performance', 'sessionStorage', 'setInterval', 'setTimeout', 'window',
  'Blob', 'CustomEvent', 'FileReader', 'Image', 'IntersectionObserver', 'MutationObserver', 'TextEncoder', 'URL',
  'URLSearchParams',
);
const asText = 'Text from users must stay text: use textContent.';

export default [
  js.configs.recommended,
  {
    linterOptions: { noInlineConfig: true },
    languageOptions: {
      ecmaVersion: 2022,
      sourceType: 'script',
      globals: BROWSER,
    },
    rules: {
      'array-callback-return': ['error', { allowImplicit: false, checkForEach: false }],
      eqeqeq: 'error',
      'no-eval': 'error',
      'no-implicit-globals': 'error',
      'no-implied-eval': 'error',
      'no-new-func': 'error',
      'no-promise-executor-return': 'error',
      'no-restricted-properties': ['error',
        ...['innerHTML', 'outerHTML', 'insertAdjacentHTML', 'write'].map((property) => ({ property, message: asText }))],
      'no-self-compare': 'error',
      'no-shadow': ['error', { hoist: 'all' }],
      'no-template-curly-in-string': 'error',
      'no-throw-literal': 'error',
      'no-unmodified-loop-condition': 'error',
      'no-unreachable-loop': 'error',
      'no-unused-expressions': 'error',
      'no-unused-vars': ['error', { ignoreRestSiblings: true }],
      'no-use-before-define': ['error', { functions: false, classes: false, variables: false }],
      'no-var': 'error',
      'prefer-const': 'error',
    },
  },
  {
    // A piece of the page: the body of a function that Gradio calls with these arguments.
    ignores: ['**/language.js'],
    languageOptions: {
      parserOptions: { ecmaFeatures: { globalReturn: true } },
      globals: readonly('element', 'trigger', 'props', 'server', 'upload', 'watch', 'studioLanguage'),
    },
  },
  {
    // In the page's head, after a line of language.py that tells the Chinese words.
    files: ['**/language.js'],
    languageOptions: { globals: readonly('studioChinese') },
  },
];
