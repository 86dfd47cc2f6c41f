//! The Unigram model of SentencePiece.
