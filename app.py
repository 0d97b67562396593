"""The studio in the browser: python app.py [--weights DIR|ID] [--host HOST] [--port PORT] [--share]."""

from jepa_app.serve import main

if __name__ == "__main__":
    main()
