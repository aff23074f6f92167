"""Generated from proto/ by tools/protos.py; never edited."""
