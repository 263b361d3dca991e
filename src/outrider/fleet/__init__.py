"""Several replicas of the server behind one door: `outrider serve --replicas N`."""
