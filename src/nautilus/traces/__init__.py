"""Where the time of a request goes: spans, gathered into traces, sent by OTLP. Knows no other room."""
