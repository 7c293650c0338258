"""Who runs it: one job. It prepares data, trains, holds GPUs and leaves a record. torch is loaded only where it trains."""
