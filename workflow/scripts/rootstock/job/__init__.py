"""One job: it prepares data or trains, holds GPUs and leaves a record. Loads torch only if there is work to do."""
