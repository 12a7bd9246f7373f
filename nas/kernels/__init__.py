"""Operations traced from a module, how long they take, and models of that."""
