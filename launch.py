"""The one command: ``python launch.py --config X``; ``--help`` says the rest.

``threestudio`` is imported here, not only in ``command``: a spawned worker imports this file again, and with it finds
the plugins' modules.
"""

from threestudio.run import command

if __name__ == "__main__":
    command()
