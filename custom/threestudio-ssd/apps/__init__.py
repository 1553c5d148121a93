"""What ``launch.py --run NAME`` starts; ``launch.py --run`` lists it."""
