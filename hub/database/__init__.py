"""PostgreSQL: connections, migrations, storage tiers, ids."""
