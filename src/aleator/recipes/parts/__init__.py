"""What supervised tasks share: how a method becomes an option of every one of them."""
