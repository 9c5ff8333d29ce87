"""LTX-2.3 with its IC-LoRA: a control film beside what is made, and keyframes of the carried film."""
