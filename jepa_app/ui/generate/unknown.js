// Names what the model has never seen of the prompt. The server sends { words: [...], thing: null or "..." }.
watch('value', () => {
  const unseen = props.value?.words ?? [];
  const thing = props.value?.thing;
  const lines = [unseen.length ? words('unknown', { words: unseen.join(', ') }) : '', thing ? words('new_pair', { thing }) : ''];
  element.querySelector('.unknown-words').textContent = lines.filter(Boolean).join(' · ');
});
