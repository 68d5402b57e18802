"""Has a constant learning rate done what it can? Tests on the steps themselves, as schedules that then lower it."""
