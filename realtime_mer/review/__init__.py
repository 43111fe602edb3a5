"""The review: people judge what an archive found, and learn what it is worth on their videos."""
