"""What the page and the command line may ask for: requests in, small frozen results out, and jobs that are kept."""
