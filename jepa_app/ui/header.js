// The switch between light and dark. The browser keeps the choice for the next visit.
const KEY = 'jepa-studio-mode';
const body = document.body;
const chosen = stored(KEY);
if (chosen) body.classList.toggle('dark', chosen === 'dark');
element.querySelector('.mode').addEventListener('click', () => {
  store(KEY, body.classList.toggle('dark') ? 'dark' : 'light');
});
