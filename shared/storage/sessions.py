"""Settings of every PostgreSQL session that we open, through an engine or not."""

#: PostgreSQL compiles a statement that it expects to be expensive, at every execution. Ours are short, and the planner
#: settings of ``driver`` make cheap plans look expensive.
NO_JIT = "-c jit=off"
