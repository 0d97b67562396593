"""What several tests share: stand-ins, servers, browsers and drawn corpora."""
