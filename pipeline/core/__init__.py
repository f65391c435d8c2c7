"""Words every stage shares: errors, ids, sample time, audio arithmetic, the stage contract. numpy and the standard library only."""
