"""Who wins and what it costs: agents compared in the same simulated users."""
