"""People's videos into a sharded set that training streams: aligned crops, voice, and what priors read off them."""
