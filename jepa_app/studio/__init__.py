"""What the page and the command line call: requests in, small frozen results out, and runs kept as jobs."""
