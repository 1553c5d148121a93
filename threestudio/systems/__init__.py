"""Systems: what a run optimises and saves. The host has the base class only."""
