"""Networks only: no download, device choice, loss, loop or sampler lives here."""
