//! The chapters of the book and the questions each answers: the one list that everything else is held against.
//!
//! A chapter's slug names its page, its program, its printed output, its figures and its fixtures.

/// One chapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chapter {
    /// The name of its files, as in `ch04_attention`.
    pub slug: &'static str,
    /// Its title.
    pub title: &'static str,
    /// The questions it answers, word for word.
    pub questions: &'static [&'static str],
}

impl Chapter {
    /// Its number, from 1.
    pub fn number(&self) -> usize {
        1 + CHAPTERS.iter().take_while(|chapter| chapter.slug != self.slug).count()
    }

    /// Its questions with their numbers, which run through the whole book.
    pub fn numbered_questions(&self) -> impl Iterator<Item = (usize, &'static str)> {
        let before: usize = CHAPTERS[..self.number() - 1]
            .iter()
            .map(|chapter| chapter.questions.len())
            .sum();
        self.questions
            .iter()
            .enumerate()
            .map(move |(index, &question)| (before + index + 1, question))
    }
}

/// All chapters, in order.
pub const CHAPTERS: [Chapter; 12] = [
    Chapter {
        slug: "ch01_understanding",
        title: "Understanding self-attention",
        questions: &[],
    },
    Chapter {
        slug: "ch02_environment",
        title: "Setting up the environment",
        questions: &[
            "How do you install the necessary libraries for building and training self-attention models in PyTorch?",
            "How do you import the required modules for building attention mechanisms and handling data in PyTorch?",
            "How do you set up the environment to utilize a GPU for training self-attention models in PyTorch?",
        ],
    },
    Chapter {
        slug: "ch03_data",
        title: "Defining the input data",
        questions: &[
            "How do you define sequence data, such as tokenized text, to be used as input for the self-attention mechanism?",
            "How do you preprocess and batch the input data to feed into the self-attention model?",
            "How do you create a DataLoader in PyTorch to load batches of sequential data for training?",
        ],
    },
    Chapter {
        slug: "ch04_attention",
        title: "Implementing scaled dot-product attention",
        questions: &[
            "How do you implement the function for scaled dot-product attention in PyTorch?",
            "How do you calculate the attention scores by computing the dot product of the query and key matrices?",
            "How do you apply softmax to normalize the attention scores in the scaled dot-product attention mechanism?",
            "How do you compute the final output of the attention mechanism by multiplying the attention scores with the value matrix?",
        ],
    },
    Chapter {
        slug: "ch05_multi_head",
        title: "Building multi-head self-attention",
        questions: &[
            "How do you define the architecture for multi-head self-attention using `torch.nn.Module` in PyTorch?",
            "How do you split the input into multiple heads and perform scaled dot-product attention for each head?",
            "How do you concatenate the outputs of the multiple attention heads and apply a final linear transformation?",
        ],
    },
    Chapter {
        slug: "ch06_feed_forward",
        title: "Building the position-wise feed-forward network",
        questions: &[
            "How do you define the position-wise feed-forward network using `torch.nn.Linear` layers in PyTorch?",
            "How do you apply the feed-forward network to each position in the sequence independently?",
            "How do you add a non-linearity (e.g., ReLU) between the linear layers in the feed-forward network?",
        ],
    },
    Chapter {
        slug: "ch07_block",
        title: "Applying self-attention to a transformer block",
        questions: &[
            "How do you combine multi-head self-attention with layer normalization and residual connections in a transformer block?",
            "How do you implement the forward pass of the transformer block, including both self-attention and feed-forward layers?",
            "How do you stack multiple transformer blocks to create a deep self-attention model?",
        ],
    },
    Chapter {
        slug: "ch08_training",
        title: "Training the self-attention mechanism",
        questions: &[
            "How do you define the loss function (e.g., CrossEntropyLoss) for training a self-attention model in PyTorch?",
            "How do you set up the optimizer (e.g., Adam) to update the parameters of the self-attention model during training?",
            "How do you implement the training loop for the self-attention mechanism, including forward pass, loss calculation, and backpropagation?",
            "How do you track and log the training loss over epochs to monitor the performance of the self-attention model?",
        ],
    },
    Chapter {
        slug: "ch09_evaluation",
        title: "Evaluating the self-attention model",
        questions: &[
            "How do you evaluate the self-attention model on validation or test data after training?",
            "How do you calculate the accuracy or other metrics (e.g., BLEU score, F1 score) to assess the model's performance?",
            "How do you implement a function to perform inference using the trained self-attention model on new input sequences?",
        ],
    },
    Chapter {
        slug: "ch10_visualization",
        title: "Visualizing attention weights",
        questions: &[
            "How do you extract attention weights from the model to analyze how the self-attention mechanism focuses on different parts of the input sequence?",
            "How do you visualize the attention weights as heatmaps to show which tokens or elements the model attends to during the forward pass?",
            "How do you interpret the attention heatmaps to understand how attention is distributed across layers and heads?",
        ],
    },
    Chapter {
        slug: "ch11_experiments",
        title: "Experimenting with hyperparameters",
        questions: &[
            "How do you experiment with different numbers of attention heads and analyze their effect on model performance and training time?",
            "How do you adjust the hidden dimension size of the self-attention mechanism and observe its impact on accuracy and convergence?",
            "How do you experiment with varying the number of transformer blocks in the model and analyze how it affects the results?",
            "How do you tune learning rates and dropout rates to improve the generalization of the self-attention model?",
            "How do you analyze the effect of different activation functions (e.g., ReLU, GELU) in the feed-forward network on training stability?",
        ],
    },
    Chapter {
        slug: "ch12_conclusion",
        title: "Conclusion",
        questions: &[],
    },
];
