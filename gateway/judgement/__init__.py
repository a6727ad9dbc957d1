"""The blocking step between facts and storage: reads rules and experience, and decides for each destination."""
