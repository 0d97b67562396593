"""How the page is served: who may call it, and what is tidied away."""
