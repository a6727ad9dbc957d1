"""What the jobs role does about contracts: reminders before the end, storage in use, holds that were approved."""
