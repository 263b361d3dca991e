"""One file for each way of asking: from bodies to what is asked, and from answers to replies. Pure functions."""
