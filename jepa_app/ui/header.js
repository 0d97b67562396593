// The light and dark switch; the choice is kept for the next visit.
const KEY = 'jepa-studio-mode';
const body = document.body;
const chosen = stored(KEY);
if (chosen) body.classList.toggle('dark', chosen === 'dark');
element.querySelector('.mode').addEventListener('click', () => {
  store(KEY, body.classList.toggle('dark') ? 'dark' : 'light');
});
