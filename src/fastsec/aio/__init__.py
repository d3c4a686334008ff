"""fastsec on asyncio: dialling, listening, the two doors, TLS, timers and jobs."""
