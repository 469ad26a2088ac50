"""The program that runs in transfer and conversion pods: verified, resumable copies and virt-v2v."""
