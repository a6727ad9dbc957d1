"""SPF, DKIM, ARC and DMARC of one message, collected side by side within a time limit."""
