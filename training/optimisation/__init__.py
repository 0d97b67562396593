"""How a network is optimised: schedules, optimizers, moving averages and compiled blocks."""
