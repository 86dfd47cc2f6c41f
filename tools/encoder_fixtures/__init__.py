"""Parts of ../make_encoder_fixtures.py."""
