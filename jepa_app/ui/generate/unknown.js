// Names the words of the prompt that the model has never seen. The server sends them as { unknown: [...] }.
watch('value', () => {
  const unknown = props.value?.unknown ?? [];
  element.querySelector('.unknown-words').textContent = unknown.length ? words('unknown', { words: unknown.join(', ') }) : '';
});
