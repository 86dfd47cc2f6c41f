//! The SentencePiece character map (`precompiled_charsmap`).
