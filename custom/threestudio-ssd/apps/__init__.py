"""What ``launch.py --run NAME`` starts."""
